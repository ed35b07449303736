"""HTTP in, server-sent events and lists out, and the page. A client of the log like any other."""
