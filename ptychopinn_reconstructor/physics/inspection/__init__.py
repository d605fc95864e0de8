"""What a scan shows of faults before it is used: bad pixels and frames, a beam off center, positions in other units."""
