"""One trial: make the network that a chain stands for, and measure it beside the teacher."""
