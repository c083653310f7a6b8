package resource

import (
	"strings"
	"testing"
)

func TestWhatIsNotedIsRecalled(t *testing.T) {
	var none Prior
	c := Claim{Space: "user", Name: "a"}
	noted, err := none.With(c, map[string]int{"uid": 1})
	if err != nil || len(none) != 0 {
		t.Fatalf("the prior itself has %v, error %v", none, err)
	}
	var into map[string]int
	if ok, err := noted.Recall(c, &into); !ok || err != nil || into["uid"] != 1 {
		t.Errorf("recalled %v, %t, error %v", into, ok, err)
	}
	if ok, err := noted.Recall(Claim{Space: "group", Name: "a"}, &into); ok || err != nil {
		t.Errorf("recalled what nobody noted: %t, error %v", ok, err)
	}
	if again, err := noted.With(c, map[string]int{"uid": 1}); again != nil || err != nil {
		t.Errorf("noted again: %v, error %v", again, err)
	}
	if _, err := noted.Recall(c, new(string)); err == nil || !strings.HasPrefix(err.Error(), `cannot read what was noted about "user:a": `) {
		t.Errorf("returned %v", err)
	}
}

func TestWhatIsNotedGoesWithItsClaim(t *testing.T) {
	a, b, never := Claim{Space: "path", Name: "/a"}, Claim{Space: "path", Name: "/b"}, Claim{Space: "edition", Name: "/a"}
	noted := Prior{a: []byte("1"), b: []byte("2"), never: []byte("3")}
	left := noted.LettingGo([]Claim{a, b}, []Claim{b})
	if _, there := left[a]; there || len(left) != 2 || len(noted) != 3 {
		t.Errorf("there is %v of %v", left, noted)
	}
	if same := noted.LettingGo([]Claim{a}, []Claim{a, b}); len(same) != 3 {
		t.Errorf("nothing was let go, and there is %v", same)
	}
}
