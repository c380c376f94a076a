"""State: a small key-value port, with etcd behind it in a cluster and a model behind it in the simulation."""
