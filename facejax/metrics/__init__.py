"""Figures of merit over plain NumPy arrays; nothing here touches a device."""
