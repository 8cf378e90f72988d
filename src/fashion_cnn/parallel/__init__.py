"""Pools of tasks on local processes or Ray, and collectives of distributed training."""
