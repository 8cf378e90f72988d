"""More than one process, on this machine or on a Ray cluster; Ray is imported only for clusters."""
