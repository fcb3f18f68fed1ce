"""Find the smaller and faster networks that still answer well, within a budget of time.

How it works: a space says what may be chosen. A trial is a chain of the other components, run by
name through the contract, so each step of it is a job like any other: cached, resumable, shared
with every DAG. `course` decides what is tried next from what was measured, and nothing else; so one
process (`search`) and mapped tasks (`propose`, then `trial` for each, again and again) go the same
way and reuse one another's jobs.

What it does not do: measure on another machine than the one that it runs on, and prove the choice.
It chooses on the selection split; validate and gate prove on images that no choice has seen.
"""
