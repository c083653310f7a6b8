package remote

import (
	"context"
	"net/url"
	"strings"
)

// dial opens a session for the request's URL.
func dial(ctx context.Context, req Request) (session, error) {
	u, err := ParseURL(req.URL)
	if err != nil {
		return nil, failf(KindNotFound, "%s", err)
	}
	switch u.Scheme {
	case "file":
		return openLocal(u.Path, req.Limits.Object)
	case "http", "https":
		t, err := dialHTTP(req, u)
		if err != nil {
			return nil, err
		}
		return &smartSession{t: t, scratch: req.Scratch, limits: req.Limits}, nil
	case "ssh":
		t, err := dialSSH(ctx, req, u)
		if err != nil {
			return nil, err
		}
		return &smartSession{t: t, scratch: req.Scratch, limits: req.Limits}, nil
	default:
		return nil, failf(KindUnsupported, "URLs that start with %s:// cannot be fetched from: use https, ssh or a path", u.Scheme)
	}
}

// ParseURL reads the URL of a repository: https, http, ssh, file, an absolute
// path, or user@host:path as ssh takes it.
func ParseURL(s string) (*url.URL, error) {
	if strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") || s == "." {
		return &url.URL{Scheme: "file", Path: s}, nil
	}
	if !strings.Contains(s, "://") {
		// host:path, where the path is relative to the user's home.
		if host, path, ok := strings.Cut(s, ":"); ok && host != "" && path != "" && !strings.Contains(host, "/") {
			user, bare, hasUser := strings.Cut(host, "@")
			u := &url.URL{Scheme: "ssh", Host: host, Opaque: "", Path: path}
			if hasUser {
				u.User, u.Host = url.User(user), bare
			}
			if !strings.HasPrefix(path, "/") {
				u.Path = "/~/" + path
			}
			return u, nil
		}
	}
	u, err := url.Parse(s)
	if err != nil {
		// The parser's error repeats the URL with its password.
		return nil, &Error{Kind: KindNotFound, Message: "URL is malformed"}
	}
	return u, nil
}
