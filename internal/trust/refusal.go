package trust

import "fmt"

// A Reason is why a commit is not trusted, in one word of an event.
type Reason string

// The reasons.
const (
	Unsigned     Reason = "unsigned"
	BadSignature Reason = "bad_signature"
	UnknownKey   Reason = "unknown_key"
	NotPermitted Reason = "not_permitted"
	NotYetValid  Reason = "not_yet_valid"
	Expired      Reason = "expired"
	Revoked      Reason = "revoked"
	Future       Reason = "future"
	Backdated    Reason = "backdated"
	Rewound      Reason = "rewound"
	Foreign      Reason = "foreign_repository"
	NoAnchor     Reason = "no_anchor"
	Malformed    Reason = "malformed"
	// Unprepared: a file of the host that the decision takes cannot be used.
	Unprepared Reason = "unprepared"
)

// A Refusal says why a commit is not trusted.
type Refusal struct {
	Reason Reason
	// Commit is the one at fault: the one offered, or one before it.
	Commit string
	// Signer is who signed it, as far as that is known.
	Signer string
	Detail string
}

func (r *Refusal) Error() string {
	what := r.Detail
	if r.Commit != "" {
		what = fmt.Sprintf("commit %s is not trusted: %s", r.Commit, r.Detail)
	}
	if r.Signer != "" {
		what += fmt.Sprintf(" (signed by %s)", r.Signer)
	}
	return what
}

// refuse makes a refusal whose commit its caller fills in.
func refuse(why Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: why, Detail: fmt.Sprintf(format, args...)}
}

func (r *Refusal) by(signer string) *Refusal {
	r.Signer = signer
	return r
}
