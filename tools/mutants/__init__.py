"""Mutation testing of `structure` and `kernels`: is every line of them held by a test?"""
