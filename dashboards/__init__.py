"""Dashboards: the pages of the desk. They read, plan, approve and pause; they never post, collect or schedule."""
