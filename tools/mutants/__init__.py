"""Mutation testing of blocks, planning, analysis, plans and kernels: is every line of them held by a test?"""
