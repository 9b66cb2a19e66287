.PHONY: build clean test

build:
	cargo xtask build

clean:
	cargo xtask clean

test:
	cargo test --workspace
