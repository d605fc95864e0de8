"""How a reconstruction is compared with a truth, with the measurement, or with its other half."""
