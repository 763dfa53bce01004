"""The losses as they are trained: settings, and what is built of them."""
