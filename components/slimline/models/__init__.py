"""Networks: the zoo, and how a model is kept and rebuilt without pickle."""
