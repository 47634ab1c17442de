"""What a person asks for: functions that the command line and the web page both call.

They take plain arguments, return values, ask nothing and print nothing. What a person should know before the result is
there, they pass to a function that the caller gives (`notices`).
"""
