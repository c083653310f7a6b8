package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/sys/user"
)

// An UnknownUserError is an owner or group that the machine does not have.
type UnknownUserError struct {
	Kind string // user or group
	Name string
}

func (e *UnknownUserError) Error() string { return fmt.Sprintf("%s %q is unknown", e.Kind, e.Name) }

// accounts holds one of the machine's two account files by name and number.
// It is read anew when the file is another, which is looked at once a second.
type accounts struct {
	kind, file string

	mu      sync.Mutex
	looked  time.Time
	seen    Info
	numbers map[string]int
	names   map[int]string
	missed  map[string]time.Time // names that nobody knew
}

const (
	accountsLimit = 64 << 20
	accountsFresh = time.Second
	askLimit      = 10 * time.Second
	askAgain      = 10 * time.Second
)

// UserID returns the number of a user, given by name or number.
func (h *Host) UserID(name string) (int, error) { return h.users.number(h, name) }

// GroupID returns the number of a group, given by name or number.
func (h *Host) GroupID(name string) (int, error) { return h.groups.number(h, name) }

// UserName returns the name of a user's number, or the number.
func (h *Host) UserName(id int) string { return h.users.name(h, id) }

// GroupName returns the name of a group's number, or the number.
func (h *Host) GroupName(id int) string { return h.groups.name(h, id) }

func (a *accounts) number(h *Host, name string) (int, error) {
	if id, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(id), nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.looked) < accountsFresh {
		if id, ok := a.numbers[name]; ok {
			return id, nil
		}
	}
	if err := a.read(h); err != nil {
		return 0, err
	}
	if id, ok := a.numbers[name]; ok {
		return id, nil
	}
	if id, ok := a.ask(h, name); ok {
		return id, nil
	}
	return 0, &UnknownUserError{Kind: a.kind, Name: name}
}

// ask has the running system's other sources of names tried: a directory
// service, or systemd's users. Only a name that the file lacks gets here.
func (a *accounts) ask(h *Host, name string) (int, bool) {
	if h.Offline() || strings.HasPrefix(name, "-") || time.Since(a.missed[name]) < askAgain {
		return 0, false
	}
	id, ok := a.getent(h, name)
	if !ok {
		if a.missed == nil {
			a.missed = map[string]time.Time{}
		}
		a.missed[name] = time.Now()
		return 0, false
	}
	a.add(name, id)
	return id, true
}

func (a *accounts) getent(h *Host, name string) (int, bool) {
	database := "passwd"
	if a.kind == "group" {
		database = "group"
	}
	ctx, cancel := context.WithTimeout(context.Background(), askLimit)
	defer cancel()
	out, err := h.Run(ctx, Command{Args: []string{"getent", database, "--", name}})
	if err != nil {
		return 0, false
	}
	fields := strings.Split(strings.TrimSpace(out.Text), ":")
	if len(fields) < 3 || fields[0] != name {
		return 0, false
	}
	id, err := strconv.ParseUint(fields[2], 10, 31)
	return int(id), err == nil
}

func (a *accounts) name(h *Host, id int) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.looked) >= accountsFresh {
		_ = a.read(h) // without names there are numbers
	}
	if name, ok := a.names[id]; ok {
		return name
	}
	return strconv.Itoa(id)
}

func (a *accounts) read(h *Host) error {
	i, err := h.Lstat(a.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	a.looked = time.Now()
	if err == nil && a.numbers != nil && i.st == a.seen.st {
		return nil
	}
	a.numbers, a.names, a.seen = map[string]int{}, map[int]string{}, i
	if err != nil {
		a.add("root", 0) // a tree without users has the one that all have
		return nil
	}
	data, err := h.ReadFile(a.file, accountsLimit)
	if err != nil {
		return err
	}
	return a.parse(data)
}

func (a *accounts) parse(data []byte) error {
	if a.kind == "user" {
		users, err := user.ParsePasswd(bytes.NewReader(data))
		for _, u := range users {
			a.add(u.Name, u.Uid)
		}
		return err
	}
	groups, err := user.ParseGroup(bytes.NewReader(data))
	for _, g := range groups {
		a.add(g.Name, g.Gid)
	}
	return err
}

// add keeps the first of several, as the C library does.
func (a *accounts) add(name string, id int) {
	if _, ok := a.numbers[name]; !ok {
		a.numbers[name] = id
	}
	if _, ok := a.names[id]; !ok {
		a.names[id] = name
	}
}
