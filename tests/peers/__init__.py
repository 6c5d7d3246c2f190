"""Tests over records that nobody in this project wrote."""
