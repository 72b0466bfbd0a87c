"""From desired and live to which wave is open, and what is applied to the cluster."""
