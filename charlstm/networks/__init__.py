"""The networks in torch: recurrent cores over a cell's equations, and the models built on them."""
