"""The only room that knows pyroute2: nftables, links, routes, conntrack.

* :mod:`.wire` packs netlink attributes; :mod:`.statements` holds nftables statements that know both their bytes and
  their ``nft`` text; :mod:`.tables` is the desired model (tables, chains, maps), its text and its differences.
* :mod:`.nftables` sends a transaction and reads its errors; :mod:`.conntrack` forgets connections.
* :mod:`.links` talks rtnetlink: links, addresses, routes, neighbours, forwarding databases, other namespaces.
"""
