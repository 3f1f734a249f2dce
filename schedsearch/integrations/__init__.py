"""Callbacks that set scheduled values in trainings run by a framework."""
