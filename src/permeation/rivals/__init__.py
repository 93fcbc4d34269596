"""Ways to store all heads' W_Q and W_K in less, behind one interface."""
