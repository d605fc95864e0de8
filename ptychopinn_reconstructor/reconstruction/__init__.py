"""From a scan and a model, or the engine alone, to an object that says how far to trust it."""
