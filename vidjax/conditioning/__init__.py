"""The Condition pytree, and how each system makes one."""
