import processor  # before torch: how its threads wait

processor.begin()
