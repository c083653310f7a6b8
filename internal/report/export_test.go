package report

// Direct are routes without a filter or a spool.
func Direct(sinks ...Sink) []Route {
	routes := make([]Route, len(sinks))
	for i, s := range sinks {
		routes[i] = Route{Sink: s}
	}
	return routes
}
