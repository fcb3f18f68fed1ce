"""Give a network another form: layers merged, factorised, swapped, dropped or grown."""
