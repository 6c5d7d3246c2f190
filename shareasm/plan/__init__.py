"""Plan: what we intend to say, read from files and sheets, checked, and frozen when it is approved."""
