"""The one numpy statement of the mathematics: geometry, grouping, scaling, forward model, stitching, refinement."""
