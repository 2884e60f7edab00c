"""Real servers that are killed, stopped or cut."""
