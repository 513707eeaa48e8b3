"""What each customer is worth from here on, why, and what to do about it."""
