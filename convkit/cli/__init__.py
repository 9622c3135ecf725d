"""The command ``convkit``: one file per subcommand, and nothing imported before it is asked for."""
