module aicn/bench/load

go 1.22
