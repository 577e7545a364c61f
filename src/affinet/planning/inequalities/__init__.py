"""Read inequalities, and put them into blocks together with the equations that share entries with them."""
