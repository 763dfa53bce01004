"""From a configuration to a trained net."""
