"""Recipes: one YAML file for each model, checked before anything runs."""

from slimline.recipe.load import load_recipe
from slimline.recipe.plan import Source, Step, plan
from slimline.recipe.schema import Recipe

__all__ = ["Recipe", "Source", "Step", "load_recipe", "plan"]
