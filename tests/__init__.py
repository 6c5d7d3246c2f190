"""The tests of the desk: one file per room, against real servers on loopback."""
