"""Recipes: one YAML file for each model, checked before anything runs."""
