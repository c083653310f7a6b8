package remote

import "golang.org/x/sys/unix"

// startsProcess are calls that start one whatever their arguments.
var startsProcess = []uint32{unix.SYS_FORK, unix.SYS_VFORK}
