package source_test

func pry() error { return nil }
