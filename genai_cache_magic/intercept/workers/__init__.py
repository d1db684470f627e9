"""Work that a cell hands to threads, pools, queues and processes takes the cell's scope along."""
