package source_test

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"

	"trued.dev/trued/internal/source"
)

type poll struct {
	at       time.Duration
	failures int
}

type queue []poll

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(poll)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}

// simulate returns how many requests a server gets in each second from hosts
// that start at once, when it is down for a while.
func simulate(hosts int, s source.Schedule, length, downFrom, downTo time.Duration) []int {
	random := rand.New(rand.NewPCG(1, 2))
	s.Random = random.Float64
	var q queue
	for range hosts {
		heap.Push(&q, poll{at: s.First()})
	}
	perSecond := make([]int, length/time.Second)
	for q[0].at < length {
		p := heap.Pop(&q).(poll)
		perSecond[p.at/time.Second]++
		if down := p.at >= downFrom && p.at < downTo; down {
			p.failures++
			p.at += s.After(p.failures, false)
		} else {
			p.at += s.After(0, p.failures > 0)
			p.failures = 0
		}
		heap.Push(&q, p)
	}
	return perSecond
}

func TestPollsOfManyHostsDoNotBeatTogether(t *testing.T) {
	const hosts = 10_000
	schedule := source.Schedule{Interval: time.Minute}
	mean := float64(hosts) / schedule.Interval.Seconds()
	for name, test := range map[string]struct{ length, downFrom, downTo time.Duration }{
		"after a common start, or a boot of all at once": {length: 2 * time.Hour},
		"after an outage of an hour":                     {length: 4 * time.Hour, downFrom: time.Hour, downTo: 2 * time.Hour},
		"after an outage from the first second on":       {length: 3 * time.Hour, downTo: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			seconds := simulate(hosts, schedule, test.length, test.downFrom, test.downTo)
			busiest, at := 0, 0
			for i, n := range seconds {
				if n > busiest {
					busiest, at = n, i
				}
			}
			t.Logf("mean %.0f a second, busiest %d a second (%.2f times), %s after the start", mean, busiest, float64(busiest)/mean, time.Duration(at)*time.Second)
			for from := 0; from < len(seconds); from += 600 {
				sum := 0
				for _, n := range seconds[from:min(from+600, len(seconds))] {
					sum += n
				}
				t.Logf("%7s: %4d a second", time.Duration(from)*time.Second, sum/600)
			}
			if float64(busiest) > 1.5*mean {
				t.Errorf("busiest second has %d requests, more than 1.5 times the mean of %.0f", busiest, mean)
			}
			last := seconds[len(seconds)-600:]
			sum := 0
			for _, n := range last {
				sum += n
			}
			if got := float64(sum) / 600; got < 0.95*mean || got > 1.05*mean {
				t.Errorf("hosts poll %.0f times a second at the end, not %.0f", got, mean)
			}
		})
	}
}
