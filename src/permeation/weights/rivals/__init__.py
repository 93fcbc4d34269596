"""Ways to store all heads' W_Q and W_K in fewer numbers, behind one interface."""
