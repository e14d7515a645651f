"""Several questions in one episode, and one reward at its end for some of them."""
