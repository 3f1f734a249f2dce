"""Callbacks that bring schedules to trainings that a framework runs."""
