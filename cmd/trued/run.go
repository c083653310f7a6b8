package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/fsnotify/fsnotify"
	"github.com/spf13/cobra"

	"trued.dev/trued/agent"
	"trued.dev/trued/internal/control"
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "run",
		GroupID: "converge",
		Short:   "The daemon; what trued.service starts",
		Long: `Poll the sources, run when there is something new, when a full check is due and
when asked to, and answer on the socket.

SIGHUP, or a changed configuration file, loads the configuration anew; one that
is wrong is reported, and the old one stays in force. SIGTERM finishes what is
in hand, at most 30 seconds.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.serve(c.Context()) },
	}
}

// serve runs the daemon until it is told to stop. A new configuration, or a
// change to the agent itself, begins a new round.
func (a *app) serve(ctx context.Context) error {
	ag, err := a.open()
	if err != nil {
		return err
	}
	if !ag.HasSources() {
		ag.Close()
		return agent.ErrNoSource
	}
	if err := os.MkdirAll(filepath.Dir(agent.SocketPath), 0o755); err != nil { //nolint:gosec // the socket in it is root's alone
		return fmt.Errorf("cannot make directory of the socket: %w", err)
	}
	changed, stopWatch := watchConfig(ctx, a.configPath("/"), a.log())
	defer stopWatch()
	// Said once, when it is true: systemd signals no service that says so twice.
	defer context.AfterFunc(ctx, func() { notify(daemon.SdNotifyStopping) })()
	for first := true; ; first = false {
		next, err := a.round(ctx, ag, changed, first)
		ag.Close()
		if next == nil || err != nil {
			return err
		}
		ag = next
	}
}

// round serves one agent. It returns the one to go on with, or nil to end.
func (a *app) round(ctx context.Context, ag *agent.Agent, changed <-chan struct{}, first bool) (*agent.Agent, error) {
	drain, err := ag.OpenSinks(a.out, a.format == "json")
	if err != nil {
		return nil, err
	}
	listener, err := control.Listen(agent.SocketPath)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := agent.NewDaemon(ag, systemd{}, drain)
	answered := make(chan error, 1)
	go func() { answered <- control.NewServer(d.Desk(), version).Serve(ctx, listener) }()
	reloaded := make(chan *agent.Agent, 1)
	go a.reload(ctx, ag, changed, reloaded, cancel)

	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("cannot read the watchdog's interval: %w", err)
	}
	trigger := "boot"
	if !first {
		trigger = "config"
	}
	err = d.Serve(ctx, trigger, watchdog)
	stopped := ctx.Err() != nil
	cancel()
	err = errors.Join(err, <-answered)
	flush, done := context.WithTimeout(context.WithoutCancel(ctx), flushWait)
	defer done()
	_ = drain.Flush(flush) // what a sink does not take is kept
	if errors.Is(err, agent.ErrRestart) {
		return nil, restart(ag)
	}
	select {
	case next := <-reloaded:
		return next, err
	default:
	}
	if err == nil && !stopped {
		err = errors.New("the daemon ended by itself")
	}
	return nil, err
}

// restart has the init system start the new binary, unit or configuration.
func restart(ag *agent.Agent) error {
	if os.Getenv("INVOCATION_ID") != "" {
		return ag.RestartDaemon(context.Background())
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot start anew: %w", err)
	}
	return syscall.Exec(self, os.Args, os.Environ()) //nolint:gosec // our own command line
}

// reload opens an agent by the new configuration each time that it changes, and
// ends the round once one is good.
func (a *app) reload(ctx context.Context, old *agent.Agent, changed <-chan struct{}, next chan<- *agent.Agent, cancel func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		ag, err := a.open()
		if err == nil && !ag.HasSources() {
			ag.Close()
			err = agent.ErrNoSource
		}
		if err != nil {
			old.RefuseConfig(ctx, err)
			continue
		}
		if ag.SameConfig(old) {
			ag.Close()
			continue
		}
		next <- ag
		cancel()
		return
	}
}

// settle is how long a file must be quiet before it is read.
const settle = 500 * time.Millisecond

// watchConfig tells of SIGHUP and of changes to the configuration file, until ctx is
// done. It watches the directory, since an editor replaces the file. Where the kernel
// watches nothing more, as on a host with many containers, it looks now and then.
func watchConfig(ctx context.Context, path string, log *slog.Logger) (<-chan struct{}, func()) {
	changed := make(chan struct{}, 1)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	stop := func() { signal.Stop(hup) }
	w, err := fsnotify.NewWatcher()
	if err == nil {
		if err = w.Add(filepath.Dir(path)); err != nil {
			_ = w.Close()
		}
	}
	if err != nil {
		log.Warn("the configuration is looked at now and then, since it cannot be watched", "error", err)
		go notice(ctx, path, &fsnotify.Watcher{}, hup, changed)
		return changed, stop
	}
	go notice(ctx, path, w, hup, changed)
	return changed, func() { stop(); _ = w.Close() }
}

// configLook is how often is looked at a configuration that cannot be watched.
const configLook = 10 * time.Second

// notice waits for what the kernel tells of the configuration, or looks at that by
// itself where the kernel tells nothing.
func notice(ctx context.Context, path string, w *fsnotify.Watcher, hup <-chan os.Signal, changed chan<- struct{}) {
	quiet := time.NewTimer(0)
	<-quiet.C
	var look <-chan time.Time
	if w.Events == nil {
		tick := time.NewTicker(configLook)
		defer tick.Stop()
		look = tick.C
	}
	was, _ := os.Stat(path)
	for say := false; ; say = false {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			say = true
		case e, ok := <-w.Events:
			if ok && filepath.Clean(e.Name) == filepath.Clean(path) {
				quiet.Reset(settle)
			}
		case err := <-w.Errors:
			if err != nil { // something was missed: look
				quiet.Reset(settle)
			}
		case <-look:
			if now, err := os.Stat(path); err == nil && !sameFile(was, now) {
				was = now
				quiet.Reset(settle)
			}
		case <-quiet.C:
			say = true
		}
		if say {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}
}

// sameFile reports whether a file is what it was, as far as can be told without
// reading it.
func sameFile(was, now os.FileInfo) bool {
	return was != nil && os.SameFile(was, now) && was.Size() == now.Size() && was.ModTime().Equal(now.ModTime())
}

// systemd tells the init system how the daemon is doing; elsewhere it tells
// nobody.
type systemd struct{}

func (systemd) Ready()    { notify(daemon.SdNotifyReady) }
func (systemd) Watchdog() { notify(daemon.SdNotifyWatchdog) }
func (systemd) Status(line string) {
	notify("STATUS=" + line)
}

func notify(s string) { _, _ = daemon.SdNotify(false, s) }
