"""The only room that knows pyroute2: nftables, links, routes, conntrack."""
