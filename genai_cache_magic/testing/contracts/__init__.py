"""One contract suite per interface: subclass it, provide the fixture, inherit the tests."""
