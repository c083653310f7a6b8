package remote

// startsProcess are calls that start one whatever their arguments.
var startsProcess []uint32
