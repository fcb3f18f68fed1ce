"""Cut away what a network needs least, then heal it with the uncut one as its teacher."""
