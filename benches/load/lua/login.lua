-- POST of the form in LOAD_FORM, the same each time.
dofile(os.getenv("LOAD_LUA") .. "/report.lua")

wrk.method = "POST"
wrk.headers["content-type"] = "application/x-www-form-urlencoded"
wrk.body = os.getenv("LOAD_FORM")
