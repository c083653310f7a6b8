package sudoers

import (
	"context"
	"fmt"
	"io"
	"slices"

	"trued.dev/trued/internal/host"
	"trued.dev/trued/internal/resource"
)

// A judge has visudo say whether sudo would take a file.
type judge struct {
	host      *host.Host
	sensitive bool
	// own calls the machine's visudo, any also that of the system that a tree is
	// worked on from.
	own, any []string

	// spoilt is what is wrong with all files together before anything changes.
	spoilt error
	// open is what is wrong with them still.
	open string
}

func newJudge(h *host.Host, sensitive bool) *judge {
	j := &judge{host: h, sensitive: sensitive, own: h.Program("visudo")}
	if j.any = j.own; j.any == nil {
		if local := host.LocalProgram("visudo"); local != "" {
			j.any = []string{local}
		}
	}
	return j
}

func (j *judge) able() bool { return j.any != nil }

// alone has a file judged by itself.
func (j *judge) alone(ctx context.Context, content *resource.Content) error {
	r, err := content.Open()
	if err != nil {
		return fmt.Errorf("cannot read the content: %w", err)
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, sizeLimit+1))
	switch {
	case err != nil:
		return fmt.Errorf("cannot read the content: %w", err)
	case len(text) > sizeLimit:
		return fmt.Errorf("the content has more than %d bytes", sizeLimit)
	}
	args := slices.Concat(j.any, []string{"-c", "-f", "-"})
	if _, err = j.host.Run(ctx, host.Command{Args: args, Stdin: string(text), Sensitive: j.sensitive}); err != nil {
		return fmt.Errorf("visudo does not accept it: %w", err)
	}
	return nil
}

// before has all files judged before one of them changes. What is broken already
// is not the fault of the one that comes, which may be what mends it.
func (j *judge) before(ctx context.Context) { j.spoilt = j.all(ctx) }

// together has all files judged with the new one in place.
func (j *judge) together(ctx context.Context) error {
	err := j.all(ctx)
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case j.spoilt != nil:
		j.open = "other files of sudo's were broken before, and still are: " + err.Error()
		return nil
	}
	return fmt.Errorf("visudo does not accept it together with the other files of sudo's: %w", err)
}

// all has everything judged that sudo reads. Naming the file keeps visudo from
// judging owners and modes of others, too. A tree is judged by its own visudo,
// or not: any other would follow what it includes to the wrong place.
func (j *judge) all(ctx context.Context) error {
	if _, err := j.host.Lstat(top); err != nil || j.own == nil {
		return nil //nolint:nilerr // without the file sudo reads nothing
	}
	args := slices.Concat(j.own, []string{"-c", "-f", top})
	_, err := j.host.Run(ctx, host.Command{Args: args, Sensitive: j.sensitive})
	return err
}

// A departure gives back what was there, if sudo takes that with all the rest.
type departure struct {
	*host.Departure
	host *host.Host
}

func (d *departure) Apply(ctx context.Context, view resource.View, found resource.Finding) (resource.Result, error) {
	j := newJudge(d.host, d.Sensitive)
	j.before(ctx)
	d.Trial = j.together
	result, err := d.Departure.Apply(ctx, view, found)
	result.Pending = j.open
	return result, err
}
